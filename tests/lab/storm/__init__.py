"""A storm: seeded random calls and faults on a real installation, judged by what its phones said and heard."""
