"""Image files: read and written, whatever format, and refused if they promise more than they hold."""
