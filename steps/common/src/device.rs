//! Where tensors live and on how many threads they are worked: chosen at run time.
//!
//! The programs are linked against the CPU part of libtorch alone. Where a CUDA part
//! lies beside it, it is opened before libtorch is asked, so one binary serves both.

use tch::{Cuda, Device};

/// What the user asks for with `--device`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Choice {
    /// CUDA where there is a GPU, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The first visible GPU; an error where there is none.
    Cuda,
}

/// The arguments that every model program has; `#[command(flatten)]` them.
#[derive(Debug, Clone, clap::Args)]
pub struct ComputeArgs {
    /// Where to compute: CUDA where there is a GPU (auto), cpu, or cuda
    #[arg(
        long,
        value_enum,
        default_value_t,
        global = true,
        hide_possible_values = true
    )]
    pub device: Choice,
    /// CPU threads to use [default: all cores]
    #[arg(
        long,
        env = "OMP_NUM_THREADS",
        hide_env_values = true,
        global = true,
        value_name = "N",
        value_parser = clap::value_parser!(u16).range(1..=1024)
    )]
    pub threads: Option<u16>,
}

/// There is no GPU that libtorch can use.
#[derive(Debug, thiserror::Error)]
#[error(
    "no GPU was found by libtorch; use --device cpu, or make libtorch_cuda.so and a driver reachable"
)]
pub struct NoGpu;

impl ComputeArgs {
    /// Sets the number of threads and chooses the device. Call it once, first: it may
    /// start the program anew, see [`wait_without_spinning`].
    pub fn apply(&self) -> Result<Device, NoGpu> {
        if self.threads != Some(1) {
            wait_without_spinning();
        }
        set_threads(self.threads.map(i32::from));
        self.device.resolve()
    }
}

/// What has to be done before a program that stays says that it is ready: it cannot be
/// started anew later.
pub(crate) fn settle() {
    if std::env::var_os("OMP_NUM_THREADS").is_none_or(|threads| threads != "1") {
        wait_without_spinning();
    }
}

impl Choice {
    /// The device that this choice means on this machine.
    pub fn resolve(self) -> Result<Device, NoGpu> {
        match self {
            Choice::Cpu => Ok(Device::Cpu),
            Choice::Auto if cuda_available() => Ok(Device::Cuda(0)),
            Choice::Auto => Ok(Device::Cpu),
            Choice::Cuda if cuda_available() => Ok(Device::Cuda(0)),
            Choice::Cuda => Err(NoGpu),
        }
    }
}

/// Uses `threads` CPU threads, or as many as there are cores; processes that train together
/// share them.
pub fn set_threads(threads: Option<i32>) {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let own = (cores / crate::distributed::sharing_this_machine()) as i32;
    tch::set_num_threads(threads.unwrap_or(own).max(1));
}

/// Makes OpenMP's idle threads sleep instead of spin, unless the user has chosen. Where
/// other programs share the cores, spinning threads take the time of those that work: on
/// two busy cores a training on two threads did 800 tokens a second spinning and 22,000
/// sleeping. OpenMP reads the variable when it is loaded, which is before `main`, so the
/// program is started anew in its own place, once.
fn wait_without_spinning() {
    use std::os::unix::process::CommandExt;
    const POLICY: &str = "OMP_WAIT_POLICY";
    if std::env::var_os(POLICY).is_some() {
        return;
    }
    let mut arguments = std::env::args_os();
    if let (Ok(program), Some(name)) = (std::env::current_exe(), arguments.next()) {
        // Comes back only where the program cannot be started: then it goes on as it is.
        let _ = std::process::Command::new(program)
            .arg0(name)
            .args(arguments)
            .env(POLICY, "PASSIVE")
            .exec();
    }
}

/// Generation runs on one CPU thread, so that one seed gives the same bytes whatever
/// the machine's number of cores.
pub fn deterministic() {
    tch::set_num_threads(1);
}

/// Seeds libtorch for one step of a training from the training's seed. The state of
/// libtorch's generator cannot be saved, so each step begins from a seed of its own:
/// that is what makes a resumed training equal to an uninterrupted one.
pub fn reseed(seed: u64, step: u64) {
    // SplitMix64: neighbouring (seed, step) pairs become unrelated seeds.
    let mut z = seed.rotate_left(32) ^ step.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    tch::manual_seed((z ^ (z >> 31)) as i64);
}

/// Whether a GPU can be used.
pub fn cuda_available() -> bool {
    open_cuda_library();
    Cuda::is_available()
}

/// Opens `libtorch_cuda.so` where there is one. Its constructors register the CUDA
/// kernels with libtorch; without it `Cuda::is_available` is always false, because
/// the linker keeps only libraries whose symbols are used.
fn open_cuda_library() {
    use std::sync::Once;
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let beside = loaded_torch_dir().map(|dir| dir.join("libtorch_cuda.so"));
        let names = beside
            .into_iter()
            .filter(|path| path.exists())
            .chain([std::path::PathBuf::from("libtorch_cuda.so")]);
        for name in names {
            use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_LAZY};
            // SAFETY: libtorch's own part of the same version, whose constructors are
            // made to run at load; it stays loaded for the life of the process.
            #[allow(unsafe_code)]
            let opened = unsafe { Library::open(Some(&name), RTLD_LAZY | RTLD_GLOBAL) };
            if let Ok(library) = opened {
                std::mem::forget(library);
                return;
            }
        }
    });
}

/// The folder from which this process loaded libtorch.
fn loaded_torch_dir() -> Option<std::path::PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let line = maps
        .lines()
        .find(|line| line.contains("/libtorch_cpu.so"))?;
    let path = std::path::Path::new(&line[line.find('/')?..]);
    path.parent().map(std::path::Path::to_path_buf)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_and_step_give_one_stream() {
        let draw = |seed, step| {
            reseed(seed, step);
            Vec::<f32>::try_from(tch::Tensor::rand([4], (tch::Kind::Float, Device::Cpu))).unwrap()
        };
        assert_eq!(draw(1, 2), draw(1, 2));
        assert_ne!(draw(1, 2), draw(1, 3));
        assert_ne!(draw(1, 2), draw(2, 1));
    }

    #[test]
    fn the_folder_of_libtorch_is_found() {
        assert!(loaded_torch_dir().unwrap().join("libtorch_cpu.so").exists());
    }
}
