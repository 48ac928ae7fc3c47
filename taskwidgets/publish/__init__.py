"""What happens between a staging table and its target."""
