#!/bin/sh
# Stands in for grep: /proc/net belongs to the kernel's stack, so the files there are read from where ours shows them.
for word; do
    shift
    case $word in /proc/net/*) word=$USTACK_PACKETDRILL_PROC/${word#/proc/net/} ;; esac
    set -- "$@" "$word"
done
PATH=${PATH#*:}
exec grep "$@"
