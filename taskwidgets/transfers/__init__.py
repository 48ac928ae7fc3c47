"""Moving data between files and tables, in segments that commit together with their checkpoint."""
