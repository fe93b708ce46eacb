"""Serves one file over HTTP, with ranges, or as a whole at /whole.raucb; cuts the first answers off in the middle. Arguments: port, file, answers to cut."""
import http.server
import os
import sys

PORT, FILE, CUTS = int(sys.argv[1]), sys.argv[2], [int(sys.argv[3])]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.answer(False)

    def do_GET(self):
        self.answer(True)

    def answer(self, with_body):
        if self.path == "/huge.raucb":
            self.send_response(200)
            self.send_header("Content-Length", str(2**50))
            self.end_headers()
            return
        if self.path not in ("/new.raucb", "/whole.raucb"):
            self.send_error(404)
            return
        data = open(FILE, "rb").read()
        asked = self.headers.get("Range") if self.path == "/new.raucb" else None
        begin = int(asked.removeprefix("bytes=").split("-")[0]) if asked else 0
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - begin))
        self.send_header("ETag", f'"{len(data)}"')
        self.end_headers()
        if not with_body:
            return
        body = data[begin:]
        if CUTS[0] > 0:
            CUTS[0] -= 1
            body = body[: len(body) // 2]
            self.close_connection = True
        self.wfile.write(body)

    def log_message(self, form, *arguments):
        print(self.command, self.path, self.headers.get("Range"), flush=True)


server = http.server.ThreadingHTTPServer(("127.0.0.1", PORT), Handler)
print("listening", os.getpid(), flush=True)
server.serve_forever()
