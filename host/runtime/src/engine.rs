//! The WebAssembly engine: one for all components of a process.

use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::Limits;

/// Memory of a finished instance that is zeroed in place instead of being given back and faulted in
/// again: with it a fresh call costs a third. `ARCHITECTURE.md` has the figures.
const KEEP_MEMORY_BYTES: usize = 1024 * 1024;
const KEEP_TABLE_BYTES: usize = 64 * 1024;

/// Room on a call's stack for the host functions that run on it, beside the guest's own part.
const HOST_STACK_BYTES: usize = 512 * 1024;

/// An engine with the pooling allocator, whose clock ticks every [`Limits::epoch`] as long as it
/// lives.
pub(crate) fn start(limits: &Limits) -> wasmtime::Result<Engine> {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(limits.instances)
        // A component that rustc makes has one core module and up to a handful of adapters.
        .total_core_instances(limits.instances * 8)
        .total_memories(limits.instances)
        .total_tables(limits.instances * 2)
        .total_stacks(limits.instances)
        .max_memory_size(limits.memory_bytes)
        .table_elements(limits.table_elements)
        .max_tables_per_module(4)
        .max_memories_per_module(1)
        .linear_memory_keep_resident(KEEP_MEMORY_BYTES)
        .table_keep_resident(KEEP_TABLE_BYTES)
        // Third parties link with a 1 MiB stack: without this each fresh call walks it.
        .pagemap_scan(Enabled::Auto);
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        // Guests are synchronous; on, this costs every call about 2 µs.
        .concurrency_support(false)
        .epoch_interruption(true)
        .max_wasm_stack(limits.stack_bytes)
        .async_stack_size(limits.stack_bytes + HOST_STACK_BYTES)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    let engine = Engine::new(&config)?;
    let ticking = engine.weak();
    let epoch = limits.epoch;
    std::thread::Builder::new()
        .name("countersign-epoch".to_owned())
        .spawn(move || {
            while let Some(engine) = ticking.upgrade() {
                engine.increment_epoch();
                drop(engine);
                std::thread::sleep(epoch);
            }
        })?;
    Ok(engine)
}
