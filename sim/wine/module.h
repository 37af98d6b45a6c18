#pragma once

namespace sim::wine
{

// Keeps this library in the process.
void KeepModule();

// The functions that the module around an address imports.
class ImportsOfCaller
{
  public:
    explicit ImportsOfCaller(const void *address);

    // Makes the module call `function` where it calls the imported function of this name. A bugcheck if it imports
    // none.
    void Replace(const char *name, void *function) const;

  private:
    char *module_;
};

} // namespace sim::wine
