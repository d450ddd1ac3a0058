"""Stack: the processes of one machine, from nothing to healthy and back.

In: settings. Out: supervised services, their health, their logs, what is wrong with the machine.
Invariant: everything binds to loopback, lives under the state directory, and after `down` nothing is left.
"""
