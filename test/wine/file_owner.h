// Lets a program under Wine see owners of files as Windows has them.
#pragma once

// Under Wine every file belongs to the Unix user, and Wine can change no owner.
// From now on GetSecurityInfo tells this process that the files of its user belong to the administrators.
// An installer that runs as administrator has given them to that group. Access lists stay those of Wine.
void FileOwnerBecomesAdministrators(void);
