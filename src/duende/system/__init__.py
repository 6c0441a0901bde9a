"""The only syscalls: processes, /proc, cgroups, sockets, clocks. Small and typed; OSError is translated here, once."""
