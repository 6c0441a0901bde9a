"""Takes orders from redis and makes them. Redis may come and go: an order that was taken is made or put back."""

from __future__ import annotations

from duende import Daemon, DaemonConfig, DaemonContext
from shop.redis import Redis, RedisError

WAIT_S = 1  # how long redis may hold a request for the next order; also how late a stop is noticed


class Worker(Daemon):
    """The reliable queue of redis: an order moves to a list of ours, and leaves it when it is made."""

    def init(self, config: DaemonConfig) -> None:
        self.port = int(config.settings["redis_port"])
        self.mine = f"taken:{config.instance}"

    def run(self, ctx: DaemonContext) -> None:
        while not ctx.should_shutdown:
            try:
                self.work(ctx)
            except (OSError, RedisError) as error:
                print("cannot reach redis, trying again:", error)
                ctx.sleep(1.0)

    def work(self, ctx: DaemonContext) -> None:
        redis = Redis(self.port)
        try:
            while redis("RPOPLPUSH", self.mine, "orders") is not None:
                print("put back an order that an earlier worker had taken")
            while not ctx.should_shutdown:
                order = redis("BRPOPLPUSH", "orders", self.mine, WAIT_S)
                if order is not None:
                    print("made", order)
                    redis("INCR", "done")
                    redis("LREM", self.mine, 1, order)
        finally:
            redis.close()
