//! What comes from providers by itself: callbacks, until they are taken; and the follower, which asks.

use std::sync::Arc;
use std::time::Duration;

use countersign_delivery::Follower;
use countersign_types::Clock;
use tokio::sync::watch;

use crate::carrier::Callback;
use crate::oracle::{Answer, CALL, Op};
use crate::process::Process;

impl Process {
    /// Sends callbacks, each by itself.
    pub(crate) async fn callbacks(self: Arc<Process>) {
        loop {
            for callback in self.carrier.fresh().await {
                tokio::spawn(self.clone().callback(callback));
            }
        }
    }

    /// Sends one callback until it is taken, as providers do; and now and then once more, where the
    /// answer was lost.
    async fn callback(self: Arc<Process>, callback: Callback) {
        let world = &*self.world;
        loop {
            tokio::time::sleep(self.carrier.delay()).await;
            world.alive().await;
            let (provider, updates) = (callback.provider, &callback.updates);
            let op = Op::Receipt {
                provider,
                updates: updates.clone(),
            };
            let call = self.oracle.call(op, None);
            world.step(format_args!("call {}: {:?}", call.id, call.op));
            let now = self.doors[world.below(2) as usize].runtime.now();
            let taken = self.queue.receive(provider, updates, now);
            let taken = CALL.scope(call.clone(), taken).await;
            world.alive().await;
            if taken.is_err() {
                world.mark("a receipt that is lost and comes again");
                continue;
            }
            self.oracle.answered(&call, &Answer::Taken);
            if !world.fault_once_in(8) {
                return self.carrier.taken(&callback);
            }
        }
    }

    /// Follows sent messages for a few steps now and then: each second of it looks at all that was
    /// sent, and most of them find nothing.
    pub(crate) async fn follow(self: Arc<Process>, clock: Arc<dyn Clock>) {
        let world = &*self.world;
        loop {
            tokio::time::sleep(Duration::from_millis(world.below(400_000))).await;
            let source = self.carrier.clone();
            let Ok(follower) = Follower::start(self.queue.clone(), clock.clone(), source).await
            else {
                continue;
            };
            world.step(format_args!("the follower"));
            let (stop, stopped) = watch::channel(false);
            let stop = async {
                tokio::time::sleep(Duration::from_millis(world.below(4_000))).await;
                // It is there: it is being waited for.
                let _ = stop.send(true);
            };
            tokio::join!(follower.run(stopped), stop);
        }
    }
}
