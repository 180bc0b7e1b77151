"""What keeps the process going: tasks, threads, files, sockets, logs. Knows no GPU."""
