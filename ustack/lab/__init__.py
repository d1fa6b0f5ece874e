"""Networks of stacks in one process: in virtual time, or in real time with the kernel at one end."""

from ustack.lab.clock import Lab as Lab
from ustack.lab.network import Network as Network
from ustack.lab.spec import Spec as Spec
from ustack.lab.spec import SpecError as SpecError
from ustack.lab.spec import load as load
