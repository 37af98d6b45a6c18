// Also a Node.js addon, which `--require` loads into a Windows Node.js before the addon under test.
#include "file_owner.h"

#include <windows.h>

#include <aclapi.h>
#include <sddl.h>
#include <stdio.h>
#include <string.h>

#define MAX_DESCRIPTOR 4096

static char FileOwnerUser[256];

// Copies `text` to `changed` with `BA`, the administrators, in the place of the user.
static void FileOwnerRename(const char *text, char *changed, size_t size)
{
    size_t length = strlen(FileOwnerUser);
    size_t used = 0;

    while (*text != '\0' && used + sizeof("BA") < size)
    {
        if (strncmp(text, FileOwnerUser, length) == 0)
        {
            used += (size_t)snprintf(changed + used, size - used, "BA");
            text += length;
        }
        else
        {
            changed[used++] = *text++;
        }
    }
    changed[used] = '\0';
}

// Stands in for GetSecurityInfo.
static DWORD WINAPI FileOwnerGet(HANDLE file, SE_OBJECT_TYPE type, SECURITY_INFORMATION wanted, PSID *owner,
                                 PSID *group, PACL *acl, PACL *systemAcl, PSECURITY_DESCRIPTOR *descriptor)
{
    union
    {
        SECURITY_DESCRIPTOR aligned;
        BYTE bytes[MAX_DESCRIPTOR];
    } own;
    char changed[MAX_DESCRIPTOR];
    char *text;
    DWORD length;
    BOOL present;
    BOOL defaulted;

    (void)type;
    (void)group;
    (void)systemAcl;
    if (!GetKernelObjectSecurity(file, wanted, &own.aligned, sizeof(own), &length) ||
        !ConvertSecurityDescriptorToStringSecurityDescriptorA(&own.aligned, SDDL_REVISION_1, wanted, &text, NULL))
    {
        return GetLastError();
    }
    FileOwnerRename(text, changed, sizeof(changed));
    LocalFree(text);
    if (!ConvertStringSecurityDescriptorToSecurityDescriptorA(changed, SDDL_REVISION_1, descriptor, NULL) ||
        !GetSecurityDescriptorOwner(*descriptor, owner, &defaulted) ||
        !GetSecurityDescriptorDacl(*descriptor, &present, acl, &defaulted))
    {
        return GetLastError();
    }
    return ERROR_SUCCESS;
}

static void FileOwnerReadUser(void)
{
    union
    {
        TOKEN_USER user;
        BYTE bytes[256];
    } information;
    HANDLE token;
    DWORD length;
    char *text;

    if (OpenProcessToken(GetCurrentProcess(), TOKEN_QUERY, &token))
    {
        if (GetTokenInformation(token, TokenUser, &information, sizeof(information), &length) &&
            ConvertSidToStringSidA(information.user.User.Sid, &text))
        {
            snprintf(FileOwnerUser, sizeof(FileOwnerUser), "%s", text);
            LocalFree(text);
        }
        CloseHandle(token);
    }
}

void FileOwnerBecomesAdministrators(void)
{
    // mov rax, address; jmp rax
    BYTE jump[] = {0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xe0};
    void *replaced = (void *)GetProcAddress(GetModuleHandleW(L"advapi32.dll"), "GetSecurityInfo");
    void *replacement = (void *)FileOwnerGet;
    DWORD protection;

    FileOwnerReadUser();
    memcpy(jump + 2, &replacement, sizeof(replacement));
    if (FileOwnerUser[0] != '\0' && VirtualProtect(replaced, sizeof(jump), PAGE_EXECUTE_READWRITE, &protection))
    {
        memcpy(replaced, jump, sizeof(jump));
        VirtualProtect(replaced, sizeof(jump), protection, &protection);
        FlushInstructionCache(GetCurrentProcess(), replaced, sizeof(jump));
    }
}

__declspec(dllexport) void *napi_register_module_v1(void *env, void *exports)
{
    (void)env;
    FileOwnerBecomesAdministrators();
    return exports;
}
