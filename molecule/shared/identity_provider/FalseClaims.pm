# What no honest provider does: claims of an ID token replaced before it is signed (another audience, another issuer, a
# time that has passed), so a test can see that the relying party refuses them. A claim set to null is left out.
package FalseClaims;

use strict;
use warnings;
use JSON;
use Mouse;
use Lemonldap::NG::Portal::Main::Constants qw(PE_OK);

extends 'Lemonldap::NG::Portal::Main::Plugin';

use constant hook => { oidcGenerateIDToken => 'replace' };

sub init { return 1 }

sub replace {
    my ( $self, $req, $claims, $rp ) = @_;
    my $false = decode_json( $self->conf->{customPluginsParams}->{claims} );
    for my $claim ( keys %$false ) {
        $claims->{$claim} = $false->{$claim};
        delete $claims->{$claim} unless defined $false->{$claim};
    }
    return PE_OK;
}

1;
