"""packetdrill drives a stack in virtual time: plugin, daemon, runner, and which scripts pass.

google/packetdrill sends what its scripts say by way of a shared object (``--so_filename``) instead of the kernel. Ours
is ``plugin.c``, compiled when it is needed; the stack lives in this process (``server.py``), behind a device that
carries bare IPv4 packets. packetdrill and its scripts are not part of ustack: build google/packetdrill anywhere, and

    python -m tests.packetdrill --packetdrill ~/packetdrill/gtests/net/packetdrill/packetdrill fast_retransmit -v

runs the scripts whose names contain ``fast_retransmit`` (all without a name) and shows what went wrong. The scripts
are looked for in ``../tcp`` beside the program, or where ``--scripts`` says; the environment variables
USTACK_PACKETDRILL and USTACK_PACKETDRILL_SCRIPTS say the same to ``pytest tests/packetdrill``, which holds
``scripts.toml`` to what happens.

It takes root: packetdrill runs in a network and a mount namespace of its own, in which ``/proc/sys/net/ipv4`` is a
folder of plain files with the stack's settings, ``/tmp`` is empty, and ``ip``, ``tc``, ``nstat``, ``ethtool`` and what
``grep`` finds in ``/proc/net`` speak of the stack.
"""
