"""Tables in Markdown, and a description of the machine."""

import os
import pathlib
import platform


def head(*titles):
    return [row(*titles), "|" + "---|" * len(titles)]


def row(*cells):
    return "| " + " | ".join(cells) + " |"


def machine():
    control = pathlib.Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip()
    kernel = ".".join(platform.release().split(".")[:2])
    return f"Linux {kernel}, {os.cpu_count()} processors, congestion control {control}"
