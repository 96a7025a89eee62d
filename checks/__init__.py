"""What robot data must look like: measures of episodes, evidence that merges, findings and their remedies."""
