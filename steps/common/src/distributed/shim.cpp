// PyTorch's own collectives behind a plain C interface: a TCPStore where the members meet, a
// Gloo process group, and the Reducer of DistributedDataParallel. Decides nothing: what is
// called when stands in `group.rs` and `reducer.rs`.
//
// Every function returns null, or what went wrong as text that `auria_text_free` frees. No
// exception leaves this file. Tensors are tch's: pointers to `at::Tensor`.
//
// Of Gloo only headers are used, and of them only names: libtorch brings Gloo itself, and no
// class of Gloo is made, laid out or called here.

#include <chrono>
#include <cstring>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#include <torch/csrc/distributed/c10d/reducer.hpp>

namespace {

using Milliseconds = std::chrono::milliseconds;

struct Group {
  int rank;
  int size;
  Milliseconds timeout;
  c10::intrusive_ptr<c10d::TCPStore> store;
  c10::intrusive_ptr<c10d::ProcessGroup> members;
};

char* text(const char* what) {
  return strdup(what);
}

// Runs `work`; its exceptions become text.
template <typename Work>
char* guarded(Work work) noexcept {
  try {
    work();
    return nullptr;
  } catch (const c10::Error& error) {
    return text(error.what_without_backtrace());
  } catch (const std::exception& error) {
    return text(error.what());
  } catch (...) {
    return text("an exception of an unknown kind");
  }
}

std::vector<at::Tensor> tensors_of(at::Tensor** tensors, size_t count) {
  std::vector<at::Tensor> all;
  all.reserve(count);
  for (size_t i = 0; i < count; i++) {
    all.push_back(*tensors[i]);
  }
  return all;
}

std::string failed(int rank) {
  return "auria/failed/" + std::to_string(rank);
}

} // namespace

extern "C" {

void auria_text_free(char* what) {
  free(what);
}

// Opens the store at `host`, which rank 0 serves, and waits until all members are there.
char* auria_group_meet(
    const char* host,
    uint16_t port,
    int rank,
    int size,
    int64_t timeout_ms,
    Group** out) {
  return guarded([&] {
    c10d::TCPStoreOptions options;
    options.port = port;
    options.isServer = rank == 0;
    options.numWorkers = static_cast<size_t>(size);
    options.waitWorkers = true;
    options.timeout = Milliseconds(timeout_ms);
    auto group = std::make_unique<Group>();
    group->rank = rank;
    group->size = size;
    group->timeout = options.timeout;
    group->store = c10::make_intrusive<c10d::TCPStore>(host, options);
    *out = group.release();
  });
}

// Connects the members, each at its own address, or at that of a network interface.
char* auria_group_connect(Group* group, const char* address, const char* interface) {
  return guarded([&] {
    auto options = c10d::ProcessGroupGloo::Options::create(group->timeout);
    options->devices.push_back(
        interface != nullptr ? c10d::ProcessGroupGloo::createDeviceForInterface(interface)
                             : c10d::ProcessGroupGloo::createDeviceForHostname(address));
    auto gloo = c10::make_intrusive<c10d::ProcessGroupGloo>(
        group->store, group->rank, group->size, options);
    auto members =
        c10::make_intrusive<c10d::ProcessGroup>(group->store, group->rank, group->size);
    const auto kind = c10d::ProcessGroup::BackendType::GLOO;
    members->setBackend(c10::DeviceType::CPU, kind, gloo);
    members->setDefaultBackend(kind);
    members->setGroupName("auria");
    group->members = members;
  });
}

// Ends the connections. One that failed is left to the end of the process: to end it in
// order, the members that are gone would have to answer.
void auria_group_free(Group* group, bool in_order) {
  if (in_order) {
    char* ignored = guarded([&] { delete group; });
    free(ignored);
  }
}

// Sums a contiguous tensor over all members, in place.
char* auria_group_all_reduce(Group* group, at::Tensor* tensor) {
  return guarded([&] {
    std::vector<at::Tensor> one = {*tensor};
    group->members->allreduce(one)->wait();
  });
}

// Gives all members the tensor of `root`, in place.
char* auria_group_broadcast(Group* group, at::Tensor* tensor, int root) {
  return guarded([&] {
    std::vector<at::Tensor> one = {*tensor};
    c10d::BroadcastOptions options;
    options.rootRank = root;
    group->members->broadcast(one, options)->wait();
  });
}

// Waits until all members have come here.
char* auria_group_barrier(Group* group) {
  return guarded([&] { group->members->barrier()->wait(); });
}

// After a failure: says so to the others, and waits for as long as `grace_ms` for them to do
// the same. `silent[rank]` becomes 1 for each that did not, or only for rank 0 where the store
// does not answer, which is rank 0's. A thread of its own asks: a host that has vanished from
// the network may leave it waiting.
char* auria_group_silent(Group* group, int64_t grace_ms, uint8_t* silent) {
  return guarded([&] {
    auto store = group->store;
    const int rank = group->rank, size = group->size;
    auto found = std::make_shared<std::promise<std::vector<uint8_t>>>();
    auto answer = found->get_future();
    const auto until = std::chrono::steady_clock::now() + Milliseconds(grace_ms);
    std::thread([=] {
      std::vector<uint8_t> quiet(size, 1);
      quiet[rank] = 0;
      try {
        store->set(failed(rank), std::vector<uint8_t>{1});
        while (std::chrono::steady_clock::now() < until) {
          bool all = true;
          for (int other = 0; other < size; other++) {
            quiet[other] = quiet[other] && !store->check({failed(other)});
            all = all && !quiet[other];
          }
          if (all) {
            break;
          }
          std::this_thread::sleep_for(Milliseconds(20));
        }
      } catch (...) {
        // Rank 0 may also have heard enough and gone.
        const bool is_host = quiet[0];
        std::fill(quiet.begin(), quiet.end(), 0);
        quiet[0] = is_host;
      }
      found->set_value(quiet);
    }).detach();
    if (answer.wait_until(until + Milliseconds(1000)) != std::future_status::ready) {
      silent[0] = rank != 0;
      return;
    }
    const auto quiet = answer.get();
    std::copy(quiet.begin(), quiet.end(), silent);
  });
}

// What DistributedDataParallel reduces gradients with: buckets of `bucket_bytes`, each summed
// as soon as its gradients are there, while the backward pass goes on; then divided by the
// number of members.
char* auria_reducer_new(
    Group* group,
    at::Tensor** parameters,
    size_t count,
    int64_t bucket_bytes,
    c10d::Reducer** out) {
  return guarded([&] {
    auto all = tensors_of(parameters, count);
    const std::vector<bool> sparse(count, false);
    const int64_t first = std::min<int64_t>(bucket_bytes, c10d::kDefaultFirstBucketBytes);
    auto [buckets, limits] = c10d::compute_bucket_assignment_by_size(
        all, {static_cast<size_t>(first), static_cast<size_t>(bucket_bytes)}, sparse);
    // Gradients come in about the opposite order of use.
    std::reverse(buckets.begin(), buckets.end());
    *out = new c10d::Reducer(
        std::move(all),
        std::move(buckets),
        group->members,
        sparse,
        bucket_bytes,
        /*find_unused_parameters=*/false,
        /*gradient_as_bucket_view=*/false,
        /*param_names=*/{},
        first,
        /*skip_all_reduce_unused_params=*/false,
        /*use_python_reducer=*/false,
        /*bucket_bytes_cap_list=*/{});
  });
}

// Before each forward pass whose backward pass is to reduce.
char* auria_reducer_begin(c10d::Reducer* reducer) {
  return guarded([&] {
    // Once, after the first pass: buckets in the order in which gradients came.
    if (reducer->should_rebuild_buckets()) {
      reducer->rebuild_buckets();
    }
    reducer->prepare_for_forward();
    reducer->prepare_for_backward({});
  });
}

void auria_reducer_free(c10d::Reducer* reducer) {
  char* ignored = guarded([&] { delete reducer; });
  free(ignored);
}

} // extern "C"
