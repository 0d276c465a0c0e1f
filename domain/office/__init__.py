"""What agents keep beside the customer records: tickets, staff tasks, campaigns, posts, events, exports, resources."""
