"""What uploads and downloads share."""
