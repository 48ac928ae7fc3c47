"""Users' own functions as jobs: checkpoints, transactions, pauses, retries."""
