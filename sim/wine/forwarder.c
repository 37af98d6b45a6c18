// ndis.sys and netio.sys forward all of their exports to fwpkclnt.sys. Wine also starts them as services.

long DriverEntry(void *driver, void *registry_path)
{
    (void)driver;
    (void)registry_path;
    return 0;
}
