"""The page at `/`: what this service is, where its parts are, and a request to copy.

In: addresses, and who stands beside the champions. Out: HTML without script, font or image from anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from string import Template

_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Real-time predictions</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 3rem auto; padding: 0 1rem; }
pre { background: #f4f4f4; padding: 1rem; overflow-x: auto; }
@media (prefers-color-scheme: dark) { body { background: #111; color: #ddd; } pre { background: #222; }
a { color: #8bf; } }
</style>
</head>
<body>
<h1>Real-time predictions</h1>
<p>Fraud scores and video recommendations. Each answer names the version of its model.</p>
$beside<h2>Try it</h2>
<pre>curl -s $here/v1/fraud/score -H 'content-type: application/json' \\
  -d '{"transaction_id": "try-1", "customer_id": "c000001", "terminal_id": "t000001", "amount": 42.5}'

curl -s $here/v1/recommendations -H 'content-type: application/json' \\
  -d '{"viewer_id": "v000001", "k": 5}'</pre>
<h2>Look around</h2>
<ul>
<li><a href="/openapi.json">The API's description (OpenAPI)</a></li>
<li><a href="/metrics">Metrics</a>, <a href="/readyz">ready?</a>, <a href="/livez">alive?</a></li>
<li>MLflow: <a href="$mlflow/#/experiments">experiments</a>,
<a href="$mlflow/#/models">models and who is champion</a></li>
<li><a href="$prefect">Prefect</a>: ETL, training, batch scoring, monitoring</li>
</ul>
</body>
</html>
""")


def landing_page(*, here: str, mlflow: str, prefect: str, beside: Sequence[str]) -> bytes:
    """The page for a service at these addresses; `beside` says who stands beside the champions."""
    lines = "".join(f"<li>{escape(line)}</li>\n" for line in beside)
    section = f"<h2>Beside the champions</h2>\n<ul>\n{lines}</ul>\n" if lines else ""
    addresses = {"here": escape(here), "mlflow": escape(mlflow), "prefect": escape(prefect)}
    return _PAGE.substitute(addresses, beside=section).encode()
