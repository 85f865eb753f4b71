# A RewriteMap program: one text a line in, its SHA-256 in hexadecimal out. Apache's own functions end at SHA-1.
use strict;
use warnings;
use Digest::SHA 'sha256_hex';
$| = 1;
while (my $text = <STDIN>) {
    chomp $text;
    print sha256_hex($text), "\n";
}
