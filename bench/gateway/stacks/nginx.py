"""nginx as a reverse proxy with one worker: the yardstick."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace

from bench.gateway.stacks.contract import PeerMissing, Place, Running, free_port, run_stack

__all__ = ["start"]

CONFIG = """
daemon off;
worker_processes 1;
pid {folder}/pid;
error_log stderr error;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    client_max_body_size 0;
    client_body_buffer_size 1m;
    keepalive_requests 1000000;
    tcp_nodelay on;
    upstream stub {{
        server 127.0.0.1:{upstream_port};
        keepalive 512;
        keepalive_requests 1000000;
    }}
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_read_timeout 600s;
    proxy_buffer_size 32k;
    proxy_buffers 8 32k;
    server {{
        listen 127.0.0.1:{port};
        location / {{ proxy_pass http://stub; }}
    }}
    server {{
        listen 127.0.0.1:{stream_port};
        location / {{ proxy_pass http://stub; proxy_buffering off; }}
    }}
}}
"""
"""Buffers hold a whole reply; on the second port, for streams, nothing is held back."""


def start(place: Place) -> Running:
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        raise PeerMissing("nginx is not installed; try: sudo apt-get install -y nginx-light")
    place.folder.mkdir(parents=True, exist_ok=True)
    port, stream_port = free_port(), free_port()
    config = place.folder / "nginx.conf"
    config.write_text(
        CONFIG.format(folder=place.folder, upstream_port=place.upstream_port, port=port, stream_port=stream_port)
    )
    running = run_stack(
        [program, "-p", str(place.folder), "-c", str(config)], place, port, ready="/health", within_s=20
    )
    version = subprocess.run([program, "-v"], capture_output=True, text=True).stderr.strip()
    return replace(running, stream_port=stream_port, version=version.removeprefix("nginx version: "))
