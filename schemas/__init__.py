"""What passes between stages: settings, records, Arrow schemas and errors. No behaviour; imports nothing of ours."""
