"""The chroma command line, without the Python client around it."""

import sys

import chromadb_rust_bindings

chromadb_rust_bindings.cli(sys.argv)
