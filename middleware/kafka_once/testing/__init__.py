"""What kafka_once gives to tests: real servers, and what checks stores, brokers and handlers."""
