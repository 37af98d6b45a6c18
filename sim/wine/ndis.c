// ndis.sys has nothing of its own: all of its exports lead to fwpkclnt.sys. Wine starts it as a service, too.

long DriverEntry(void *driver, void *registry_path)
{
    (void)driver;
    (void)registry_path;
    return 0;
}
