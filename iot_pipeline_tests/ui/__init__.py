"""The UI as a person uses it: a running demo, a browser, clicks and pictures."""
