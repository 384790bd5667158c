"""Opens, clicks, unsubscribes: tokens, classes, recorder, routes. Knows no driver."""
