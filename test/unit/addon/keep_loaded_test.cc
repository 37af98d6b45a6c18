#include <gtest/gtest.h>

#include <dlfcn.h>

namespace netverdict
{
namespace
{

class KeepLoadedTest : public testing::Test
{
  protected:
    static bool IsLoaded()
    {
        void *const module = dlopen(KEEPING_MODULE, RTLD_NOW | RTLD_NOLOAD);

        if (module != nullptr)
        {
            dlclose(module);
        }
        return module != nullptr;
    }
};

// The two cases are one test, because the module stays loaded for the rest of the process.
TEST_F(KeepLoadedTest, AModuleThatAsksForItStaysLoadedAfterItsLastUse)
{
    void *module = dlopen(KEEPING_MODULE, RTLD_NOW);

    ASSERT_NE(module, nullptr) << dlerror();
    ASSERT_TRUE(IsLoaded());
    dlclose(module);
    EXPECT_FALSE(IsLoaded());

    module = dlopen(KEEPING_MODULE, RTLD_NOW);
    ASSERT_NE(module, nullptr);
    const auto keep = reinterpret_cast<void (*)()>(dlsym(module, "Keep"));
    ASSERT_NE(keep, nullptr);
    keep();
    dlclose(module);
    EXPECT_TRUE(IsLoaded());
}

} // namespace
} // namespace netverdict
