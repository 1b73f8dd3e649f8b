"""The client: `Client` connects to any Socket.IO server, and its requests reach the routes of Sails and Mizzen apps."""
