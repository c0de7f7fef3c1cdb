//! The binding of `shim.cpp`, the one place with unsafe code of this module. It only calls:
//! what is called when stands in `group` and `reducer`.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr::null_mut;
use std::time::Duration;

use tch::Tensor;

use super::GroupError;

/// A tensor of tch: it hands out its `at::Tensor`.
type RawTensor = *mut std::ffi::c_void;

#[repr(C)]
struct RawGroup {
    _opaque: [u8; 0],
}

#[repr(C)]
struct RawReducer {
    _opaque: [u8; 0],
}

unsafe extern "C" {
    fn auria_text_free(what: *mut c_char);
    fn auria_group_meet(
        host: *const c_char,
        port: u16,
        rank: c_int,
        size: c_int,
        timeout_ms: i64,
        out: *mut *mut RawGroup,
    ) -> *mut c_char;
    fn auria_group_connect(
        group: *mut RawGroup,
        address: *const c_char,
        interface: *const c_char,
    ) -> *mut c_char;
    fn auria_group_free(group: *mut RawGroup, in_order: bool);
    fn auria_group_all_reduce(group: *mut RawGroup, tensor: RawTensor) -> *mut c_char;
    fn auria_group_broadcast(group: *mut RawGroup, tensor: RawTensor, root: c_int) -> *mut c_char;
    fn auria_group_barrier(group: *mut RawGroup) -> *mut c_char;
    fn auria_group_silent(group: *mut RawGroup, grace_ms: i64, silent: *mut u8) -> *mut c_char;
    fn auria_reducer_new(
        group: *mut RawGroup,
        parameters: *const RawTensor,
        count: usize,
        bucket_bytes: i64,
        out: *mut *mut RawReducer,
    ) -> *mut c_char;
    fn auria_reducer_begin(reducer: *mut RawReducer) -> *mut c_char;
    fn auria_reducer_free(reducer: *mut RawReducer);
}

/// What a function of the shim returned.
///
/// # Safety
/// `what` is null, or text that such a function has just handed out.
unsafe fn done(what: *mut c_char) -> Result<(), String> {
    if what.is_null() {
        return Ok(());
    }
    // SAFETY: not null, so a text with an end, which stays until it is freed here, once.
    unsafe {
        let text = CStr::from_ptr(what).to_string_lossy().into_owned();
        auria_text_free(what);
        Err(text)
    }
}

fn text(value: &str) -> Result<CString, String> {
    CString::new(value).map_err(|_| format!("`{value}` holds a NUL"))
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn raw(tensor: &Tensor) -> RawTensor {
    tensor.as_ptr().cast_mut().cast()
}

/// The connections of this process to the others.
#[derive(Debug)]
pub(super) struct Handle {
    group: *mut RawGroup,
    size: usize,
}

impl Handle {
    /// Fails only where the program was built without collectives.
    pub(super) fn is_built() -> Result<(), GroupError> {
        Ok(())
    }

    /// Waits in the store of rank 0 until all are there.
    pub(super) fn meet(
        host: &str,
        port: u16,
        rank: usize,
        size: usize,
        timeout: Duration,
    ) -> Result<Self, String> {
        let host = text(host)?;
        let mut group = null_mut();
        // SAFETY: the text and the place for the result outlive the call.
        unsafe {
            done(auria_group_meet(
                host.as_ptr(),
                port,
                rank as c_int,
                size as c_int,
                milliseconds(timeout),
                &raw mut group,
            ))?;
        }
        Ok(Self { group, size })
    }

    /// Connects to the others from `address`, or from the network interface.
    pub(super) fn connect(&self, address: &str, interface: Option<&str>) -> Result<(), String> {
        let address = text(address)?;
        let interface = interface.map(text).transpose()?;
        let interface = interface.as_ref().map_or(std::ptr::null(), |i| i.as_ptr());
        // SAFETY: the group is that of `meet`; the texts outlive the call.
        unsafe { done(auria_group_connect(self.group, address.as_ptr(), interface)) }
    }

    /// Ends the connections; one that is broken is left to the end of the process.
    pub(super) fn free(&mut self, in_order: bool) {
        let group = std::mem::replace(&mut self.group, null_mut());
        if !group.is_null() {
            // SAFETY: the group is that of `meet`, and is not used again.
            unsafe { auria_group_free(group, in_order) }
        }
    }

    /// Sums a contiguous tensor of the CPU over all, in place.
    pub(super) fn all_reduce(&self, tensor: &Tensor) -> Result<(), String> {
        // SAFETY: both are alive; the call ends when the tensor is no longer used.
        unsafe { done(auria_group_all_reduce(self.group, raw(tensor))) }
    }

    /// Gives all the tensor of `root`, in place.
    pub(super) fn broadcast(&self, tensor: &Tensor, root: usize) -> Result<(), String> {
        // SAFETY: as in `all_reduce`.
        unsafe {
            let root = root as c_int;
            done(auria_group_broadcast(self.group, raw(tensor), root))
        }
    }

    /// Waits until all are here.
    pub(super) fn barrier(&self) -> Result<(), String> {
        // SAFETY: the group is that of `meet`.
        unsafe { done(auria_group_barrier(self.group)) }
    }

    /// Those that do not say within `grace` that they, too, have failed.
    pub(super) fn silent(&self, grace: Duration) -> Vec<usize> {
        let mut silent = vec![0u8; self.size];
        // SAFETY: the group is that of `meet`, and there is a byte for each of its members.
        let asked =
            unsafe { auria_group_silent(self.group, milliseconds(grace), silent.as_mut_ptr()) };
        // SAFETY: just handed out. That nobody could be asked adds nothing to the failure.
        let _ = unsafe { done(asked) };
        let numbers = silent.iter().enumerate();
        numbers
            .filter(|(_, is)| **is != 0)
            .map(|(rank, _)| rank)
            .collect()
    }
}

/// What reduces gradients in a backward pass.
#[derive(Debug)]
pub(super) struct Hooks(*mut RawReducer);

impl Hooks {
    /// Hooks on the gradients of these variables, which must all get one in each pass.
    pub(super) fn new(
        handle: &Handle,
        parameters: &[Tensor],
        bucket_bytes: usize,
    ) -> Result<Self, String> {
        let parameters: Vec<RawTensor> = parameters.iter().map(raw).collect();
        let mut reducer = null_mut();
        // SAFETY: the list and the place for the result outlive the call, which keeps
        // references of its own to the tensors and to the group's connections.
        unsafe {
            done(auria_reducer_new(
                handle.group,
                parameters.as_ptr(),
                parameters.len(),
                i64::try_from(bucket_bytes).unwrap_or(i64::MAX),
                &raw mut reducer,
            ))?;
        }
        Ok(Self(reducer))
    }

    /// Before a forward pass.
    pub(super) fn begin(&self) -> Result<(), String> {
        // SAFETY: the reducer is that of `new`.
        unsafe { done(auria_reducer_begin(self.0)) }
    }

    /// Takes the hooks off.
    pub(super) fn free(&mut self) {
        let reducer = std::mem::replace(&mut self.0, null_mut());
        if !reducer.is_null() {
            // SAFETY: the reducer is that of `new`, and is not used again.
            unsafe { auria_reducer_free(reducer) }
        }
    }
}
