# Verifies the RSA signatures of each message with Mail::DKIM: `mail_dkim.pl PORT FILE...`.
#
# Asks the DNS server at PORT. Writes one line for each file: pass or fail for each RSA signature,
# from the top. Reasons go to standard error. Debian 12 has a Mail::DKIM that knows RSA alone.

use strict;
use warnings;
use Mail::DKIM::DNS;
use Mail::DKIM::Verifier;
use Net::DNS::Resolver;

my ($port, @paths) = @ARGV;
Mail::DKIM::DNS::resolver(
    Net::DNS::Resolver->new(nameservers => ['127.0.0.1'], port => $port, config_file => '/dev/null'));

for my $path (@paths) {
    open my $file, '<:raw', $path or die "$path: $!";
    my $message = do { local $/; <$file> };
    my $verifier = Mail::DKIM::Verifier->new;
    $verifier->PRINT($message);
    $verifier->CLOSE;
    my @verdicts;
    for my $signature ($verifier->signatures) {
        next if $signature->algorithm !~ /^rsa-/;
        warn $signature->result_detail . "\n" if $signature->result ne 'pass';
        push @verdicts, $signature->result eq 'pass' ? 'pass' : 'fail';
    }
    print "@verdicts\n";
}
