# LemonLDAP::NG's portal, which is the OpenID provider, and the files its pages need.
use strict;
use warnings;
use Plack::Builder;
use Lemonldap::NG::Portal::Main;

builder {
    enable 'Static', path => sub { s{^/static/}{} }, root => '/usr/share/lemonldap-ng/portal/htdocs/static/';
    enable 'Static', path => sub { s{^/javascript/}{} }, root => '/usr/share/javascript/';
    Lemonldap::NG::Portal::Main->run({});
};
