"""HTTP: the ASGI application, its routes, its OpenAPI document and landing page."""
