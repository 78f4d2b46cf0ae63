"""What people do with a running installation, start to end: real processes, services, model and browser."""
