"""The one place where the stages are wired together: plan, run, output, record."""
