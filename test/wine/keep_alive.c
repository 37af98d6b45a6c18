// Wine ends its drivers soon after its last program: this one stays until it is ended.

#include <windows.h>

int main(void)
{
    Sleep(INFINITE);
    return 0;
}
