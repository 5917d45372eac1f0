"""Every schedule of small worlds: the production engine, each choice taken, states told apart by their digest."""
