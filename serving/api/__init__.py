"""What each call of TF Serving's API answers, whichever front it came through."""
