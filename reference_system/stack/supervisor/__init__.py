"""supervisord: its configuration, its process and its control socket."""
