"""The servers that are measured beside this one, each as small as its framework allows."""
