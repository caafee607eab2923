"""The modules of torch that methods insert into a backbone."""
