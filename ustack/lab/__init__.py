"""Networks of stacks in one process: in virtual time, or in real time with the kernel at one end."""

from ustack.lab.clock import Lab as Lab
