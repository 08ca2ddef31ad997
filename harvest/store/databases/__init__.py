"""Opens the database that a store's URL names, a file of SQLite or a database of PostgreSQL, and makes its tables."""
