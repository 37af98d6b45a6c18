// The JavaScript class EmbeddedComputer: a simulated computer with the driver loaded, and its network.
//
// Concurrency: methods run on the JavaScript thread. One device at a time is open: the driver takes one client.
#pragma once

#include <napi.h>

#include <future>
#include <memory>
#include <optional>

#include "embedded_computer.h"
#include "embedded_device.h"
#include "../js_closer.h"
#include "../js_queue.h"
#include "network.h"

namespace netverdict
{

class JsEmbeddedDevice;

class JsEmbeddedComputer final : public Napi::ObjectWrap<JsEmbeddedComputer>
{
  public:
    static Napi::Function Define(Napi::Env env);

    // new EmbeddedComputer(options). An error has the `status` of the failed load.
    explicit JsEmbeddedComputer(const Napi::CallbackInfo &info);

    // The object was collected. Closes its device, ends the computer and settles what nobody has awaited yet.
    void Finalize(Napi::BasicEnv env) override;

    // Opens the device for `client`. Throws if the device does not open.
    // The computer closes `client` before it ends, and waits until `closed` is ready.
    std::shared_ptr<EmbeddedDevice> OpenDevice(Napi::Env env, JsEmbeddedDevice &client, std::future<void> closed);
    void DeviceClosed();

  private:
    template <auto method> Napi::Value OfNetwork(const Napi::CallbackInfo &info);
    template <auto action> void DoOnNetwork(const Napi::CallbackInfo &info);

    void Start(const Napi::CallbackInfo &info);
    void Undo();
    void End();
    Napi::Value Close(const Napi::CallbackInfo &info);

    // Outcomes of the network are due, or not any more. They keep the process, but not this object.
    void Hold(bool is_awaited);
    void RefOrUnrefProcess();

    // Throws if the computer is closed.
    void RequireOpen(Napi::Env env);

    // Each of these members uses those before it until it ends.
    std::shared_ptr<EmbeddedComputer> computer_; // until closed
    std::optional<JsQueue> queue_;
    std::optional<Network> network_;
    std::optional<JsCloser> closer_;

    JsEmbeddedDevice *client_ = nullptr; // while it is open
    std::future<void> device_closed_;    // ready once the last device is closed
    bool is_awaited_ = false;
};

} // namespace netverdict
