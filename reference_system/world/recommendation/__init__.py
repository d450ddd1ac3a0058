"""Videos, viewers, pages and watches."""
