"""usage: python3 serve_swift.py DATA_FOLDER CONTAINER

Serves OpenStack Swift on a free port, in one process: a proxy with TempAuth (user test:tester, key testing) before one
account, one container and one object server, which keep one replica. Makes a container, prints the port, and goes with its
standard input. Tokens are valid for as many seconds as TOKEN_LIFE says.
"""

import logging
import os
import sys
import warnings

warnings.simplefilter("ignore")
import eventlet  # noqa: E402

eventlet.monkey_patch()
from eventlet import wsgi  # noqa: E402
from eventlet.green.urllib import request  # noqa: E402
from swift.common import utils  # noqa: E402
from swift.common.middleware import catch_errors, listing_formats, tempauth  # noqa: E402
from swift.common.ring import RingBuilder  # noqa: E402
from swift.common.storage_policy import reload_storage_policies  # noqa: E402

base, container = sys.argv[1:]
etc, devices = os.path.join(base, "etc"), os.path.join(base, "devices")
os.makedirs(etc)
os.makedirs(os.path.join(devices, "disk"))
utils.SWIFT_CONF_FILE = os.path.join(etc, "swift.conf")
utils.HASH_PATH_PREFIX = utils.HASH_PATH_SUFFIX = b"tests"
with open(utils.SWIFT_CONF_FILE, "w") as conf:
    conf.write("[swift-hash]\nswift_hash_path_prefix = tests\nswift_hash_path_suffix = tests\n")
    conf.write("[storage-policy:0]\nname = one\ndefault = yes\n")

logger = logging.getLogger("swift")
logger.addHandler(logging.NullHandler())
logger.propagate = False


def listen():
    return eventlet.listen(("127.0.0.1", 0))


sockets = {kind: listen() for kind in ("account", "container", "object")}
for kind, socket in sockets.items():
    builder = RingBuilder(2, 1, 1)
    port = socket.getsockname()[1]
    device = {"id": 0, "region": 1, "zone": 1, "weight": 1, "ip": "127.0.0.1", "port": port, "device": "disk"}
    builder.add_dev(device)
    builder.rebalance()
    builder.get_ring().save(os.path.join(etc, kind + ".ring.gz"))
reload_storage_policies()

# They read the rings and policies that were written just now.
from swift.account.server import AccountController  # noqa: E402
from swift.container.server import ContainerController  # noqa: E402
from swift.obj.mem_server import ObjectController  # noqa: E402
from swift.proxy.server import Application  # noqa: E402

conf = {"devices": devices, "swift_dir": etc, "mount_check": "false", "disable_fallocate": "true"}
servers = {"account": AccountController, "container": ContainerController, "object": ObjectController}
for kind, socket in sockets.items():
    eventlet.spawn(wsgi.server, socket, servers[kind](conf), logger, log_output=False)


class Cache:
    """What the proxy wants of memcached."""

    def __init__(self):
        self.kept = {}

    def get(self, key, **_):
        return self.kept.get(key)

    def set(self, key, value, **_):
        self.kept[key] = value

    def delete(self, key, **_):
        self.kept.pop(key, None)

    def incr(self, *_, **__):
        return 1

    decr = incr


cache = Cache()
proxy = Application({"swift_dir": etc, "account_autocreate": "true"})
proxy = listing_formats.filter_factory({})(proxy)
life = os.environ.get("TOKEN_LIFE", "86400")
proxy = tempauth.filter_factory({"user_test_tester": "testing .admin", "token_life": life})(proxy)


def with_cache(environment, start):
    environment["swift.cache"] = cache
    return proxy(environment, start)


socket = listen()
port = socket.getsockname()[1]
serving = eventlet.spawn(
    wsgi.server, socket, catch_errors.CatchErrorMiddleware(with_cache, {}), logger, log_output=False
)
login = request.Request(
    f"http://127.0.0.1:{port}/auth/v1.0", headers={"X-Auth-User": "test:tester", "X-Auth-Key": "testing"}
)
with request.urlopen(login) as answer:
    url, token = answer.headers["X-Storage-Url"], answer.headers["X-Auth-Token"]
request.urlopen(request.Request(f"{url}/{container}", method="PUT", headers={"X-Auth-Token": token})).close()
print(port, flush=True)
eventlet.tpool.execute(sys.stdin.read)
