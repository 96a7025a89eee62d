"""Parts of a rollout: what is asked for, one scene, rows that are kept, films, and its report."""
