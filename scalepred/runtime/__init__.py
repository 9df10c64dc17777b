"""What keeps a process going: errors, compiler, files, other processes, preemption."""
