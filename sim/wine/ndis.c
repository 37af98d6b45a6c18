// ndis.sys forwards all of its exports to fwpkclnt.sys. Wine also starts it as a service.

long DriverEntry(void *driver, void *registry_path)
{
    (void)driver;
    (void)registry_path;
    return 0;
}
